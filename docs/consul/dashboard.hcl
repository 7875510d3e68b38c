# A dashboard reads totals and live settings, writes none of them, and registers itself as a service. The prefixes are
# those of stores.totals and stores.settings.
# "list" is read, also where acl.enable_key_list_policy is on.
key_prefix "hitmesh/" {
  policy = "list"
}
key_prefix "hitmesh-settings/" {
  policy = "list"
}
service "dashboard" {
  policy = "write"
}
