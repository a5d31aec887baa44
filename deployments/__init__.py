"""Ray Serve deployments: a thin shell round `router` and `replicas`."""
