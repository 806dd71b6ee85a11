"""The bundled API: a stateful stand-in for the real one, its data, and the demo commands."""
