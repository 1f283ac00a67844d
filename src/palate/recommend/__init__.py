"""Systems that answer: which items of the whole catalogue, in what order?"""
