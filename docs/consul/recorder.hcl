# A recorder reads live settings, writes none of them, and registers itself as a service. The prefix is that of
# stores.settings.
# "list" is read, also where acl.enable_key_list_policy is on.
key_prefix "hitmesh-settings/" {
  policy = "list"
}
service "recorder" {
  policy = "write"
}
