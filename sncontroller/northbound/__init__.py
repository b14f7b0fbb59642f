"""What the controller shows and takes over HTTP: status, metrics, operators' requests."""
