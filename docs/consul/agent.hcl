# Consul's agents and servers themselves (acl.tokens.agent): each keeps its own node in the catalogue, and knows which
# services are on it. Services are registered by their roles' own tokens.
node_prefix "" {
  policy = "write"
}
service_prefix "" {
  policy = "read"
}
