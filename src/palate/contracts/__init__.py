"""What every system promises: config, requests, answers, fit, save, load, explain."""
