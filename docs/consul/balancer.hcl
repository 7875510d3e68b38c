# A balancer reads live settings, and its admin listener changes routes, their pauses, and what operators
# say of instances; each change also writes which was the last. It registers itself as a service, and knows no totals. The prefix is that of stores.settings.
# "list" is read, also where acl.enable_key_list_policy is on.
key_prefix "hitmesh-settings/" {
  policy = "list"
}
key_prefix "hitmesh-settings/settings/routes/" {
  policy = "write"
}
key_prefix "hitmesh-settings/settings/pauses/" {
  policy = "write"
}
key_prefix "hitmesh-settings/settings/drained/" {
  policy = "write"
}
key_prefix "hitmesh-settings/settings/weights/" {
  policy = "write"
}
key "hitmesh-settings/settings/.last-change" {
  policy = "write"
}
service "balancer" {
  policy = "write"
}
