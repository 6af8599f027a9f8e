"""Floor `papers`: one room a paper, found by its folder's name; rooms never import one another."""
