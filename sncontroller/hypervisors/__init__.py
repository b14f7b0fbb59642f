"""Where nodes come from: the plugin protocol (``base``), its contract suite and our own plugins."""
