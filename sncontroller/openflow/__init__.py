"""The only part that speaks OpenFlow, and the only one (with the app) that knows Ryu."""
