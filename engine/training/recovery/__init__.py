"""How a training goes on in the next group, when members of its own are lost."""
