# Commands (`hitmesh audit`, `total`, `top`, `config`, `datacenter`) read totals, and change live settings. The prefixes
# are those of stores.totals and stores.settings.
# "list" is read, also where acl.enable_key_list_policy is on.
key_prefix "hitmesh/" {
  policy = "list"
}
key_prefix "hitmesh-settings/" {
  policy = "write"
}
