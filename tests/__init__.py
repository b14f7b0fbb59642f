"""Tests: of the pure core, of the wire, of the data plane and of whole labs."""
