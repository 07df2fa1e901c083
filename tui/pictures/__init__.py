"""Pictures of what the screens show: SVG and PNG of one moment, an animation of several."""
