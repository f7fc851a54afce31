"""The Faust app: its transport, agents and operations server. All that knows Faust."""
