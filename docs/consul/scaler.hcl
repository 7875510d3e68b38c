# A scaler reads live settings, and writes none of them but how many instances are wanted where, for the others of its
# datacenter; each change also writes which was the last. It registers itself as a service. The prefix is that of
# stores.settings.
# "list" is read, also where acl.enable_key_list_policy is on.
key_prefix "hitmesh-settings/" {
  policy = "list"
}
key_prefix "hitmesh-settings/settings/deploys/scaler/" {
  policy = "write"
}
key "hitmesh-settings/settings/.last-change" {
  policy = "write"
}
service "scaler" {
  policy = "write"
}
