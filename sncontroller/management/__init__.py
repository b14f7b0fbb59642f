"""What the controller does beside OpenFlow: reports, probes of its own, and BFD settings.

``desk`` runs commands of the core in green threads; ``fetch`` gets a report and ``parse`` reads it,
``ask`` asks a service, ``ovsdb`` sets a port. Nothing here decides anything or remembers a node.
"""
