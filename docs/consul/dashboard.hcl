# A dashboard reads totals and live settings, and writes none of them but what it remembers of alerts, for the others of
# its datacenter; each change also writes which was the last. It registers itself as a service. The prefixes are those of
# stores.totals and stores.settings.
# "list" is read, also where acl.enable_key_list_policy is on.
key_prefix "hitmesh/" {
  policy = "list"
}
key_prefix "hitmesh-settings/" {
  policy = "list"
}
key_prefix "hitmesh-settings/settings/deploys/alerts/" {
  policy = "write"
}
key "hitmesh-settings/settings/.last-change" {
  policy = "write"
}
service "dashboard" {
  policy = "write"
}
