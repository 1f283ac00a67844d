"""Put systems to work: a store of events, pipelines over the catalogue of systems, a service that learns as it answers."""
