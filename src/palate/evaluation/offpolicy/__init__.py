"""Off-policy estimation: what another policy would have earned, from the log of the one that ran.

Everything here sees arrays, never a model or a policy::

    log          Log and SlateLog: rewards and chances, checked row by row
    tables       logs from files of one's own, and from impressions of data sets
    estimators   the table of estimators of single actions (IPS, SNIPS, the direct method, DR and its kin)
    slates       the table of estimators of slates (SIPS, RIPS, IIPS, cascade-DR)
    estimate     estimates with intervals and diagnostics, or refusals with reasons
    support      what a candidate would do that the log can't show
    crossfit     a reward model without leakage
    tuning       λ and τ by an error bound or SLOPE
    spread       standard errors and intervals over units
"""
