"""Reference pipeline of Trellis Forge."""
