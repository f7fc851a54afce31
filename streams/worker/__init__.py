"""The Faust app with its transport, agents and operations server: the only code that uses Faust."""
