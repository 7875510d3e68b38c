# A processor writes heads and rows, reads live settings, and registers itself as a service. The prefixes are those of
# stores.totals and stores.settings.
# "list" is read, also where acl.enable_key_list_policy is on.
key_prefix "hitmesh/" {
  policy = "list"
}
key_prefix "hitmesh/heads/" {
  policy = "write"
}
key_prefix "hitmesh/rows/" {
  policy = "write"
}
key_prefix "hitmesh-settings/" {
  policy = "list"
}
service "processor" {
  policy = "write"
}
