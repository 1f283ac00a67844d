"""How likely is this click, purchase or rating, in this context?"""
