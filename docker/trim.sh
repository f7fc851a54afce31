#!/bin/sh
# trim.sh DIR: takes out of installed packages what never runs, and compiles the rest to bytecode.
#
# The times of all files become one whole second before anything is compiled: numba and Python compare a source's time
# with what they compiled, and layers keep whole seconds alone.
set -eu
directory=$1

rm -rf "$directory"/lib/python3.*/site-packages/pip "$directory"/lib/python3.*/site-packages/pip-*.dist-info \
  "$directory"/lib/python3.*/site-packages/setuptools "$directory"/lib/python3.*/site-packages/setuptools-*.dist-info \
  "$directory"/lib/python3.*/site-packages/_distutils_hack "$directory"/lib/python3.*/site-packages/pkg_resources \
  "$directory"/lib/python3.*/site-packages/distutils-precedence.pth "$directory"/bin/pip* "$directory"/include
# Test suites, headers and stubs of compiled packages: a sixth of the whole.
find "$directory" -depth -type d \( -name tests -o -name test -o -name include \) -path '*site-packages/*' \
  ! -path '*/numpy/testing/*' -exec rm -rf {} +
find "$directory" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' -o -name '*.c' \
  -o -name '*.h' -o -name '*.hpp' \) -delete
find "$directory" -exec touch --no-dereference --date=@1700000000 {} +
python3 -m compileall -q -j 0 "$directory"
