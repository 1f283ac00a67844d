"""Systems that choose what to show now, so as to earn and to learn (the contract is :mod:`palate.contracts.policy`)."""
