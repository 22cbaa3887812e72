"""``trellis batch``: many pictures, one after another, in a process that may die without ending the rest."""
