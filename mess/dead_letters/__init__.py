"""Dead letters as an operator works with them: read, select, publish again."""
