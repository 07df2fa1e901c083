"""Changes of the members of a run that outlives its devices: a node taken out, a node brought back."""
