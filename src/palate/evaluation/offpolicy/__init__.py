"""Off-policy estimators: what another policy would have earned, from the log of the one that ran.

Nothing stands here yet. This package will hold estimators on plain arrays of logged rewards and propensities: inverse
propensity scoring (plain, clipped, self-normalised), the direct method, doubly robust estimators and their switching and
shrinking forms, and slate estimators (independent, reward interaction, cascade), each with its effective sample size and its
largest weight. Like every metric they will see arrays, never a model.
"""
