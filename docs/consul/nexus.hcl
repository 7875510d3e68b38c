# A Nexus brings live settings from other datacenters, registers itself in the catalogue (for other datacenters, and as
# a service like all roles), and looks for the Nexuses of the others there: agent and nodes are what Consul wants for that. It knows no totals. The prefix is that of
# stores.settings.
key_prefix "hitmesh-settings/" {
  policy = "write"
}
service "hitmesh-nexus" {
  policy = "write"
}
node_prefix "" {
  policy = "read"
}
agent_prefix "" {
  policy = "read"
}
service "nexus" {
  policy = "write"
}
