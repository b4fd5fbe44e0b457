# Nodes of the cluster that `make up` runs on this machine. No provider is needed: each further node is a terraform_data
# whose making joins it and whose destruction drains and removes it. The node's processes are started by the cluster's
# supervisor, so nothing here stays in the background.

locals {
  checkout = abspath("${path.module}/../../..")
  var_dir  = var.cluster_dir != "" ? var.cluster_dir : "${local.checkout}/var"
  further  = toset([for number in range(3, var.mx_nodes + 1) : tostring(number)])
}

resource "terraform_data" "node" {
  for_each = local.further

  # A destroy-time provisioner may refer to nothing but the resource itself.
  input = {
    number   = each.key
    checkout = local.checkout
    var_dir  = local.var_dir
  }

  provisioner "local-exec" {
    command     = ".venv/bin/python -m control.local.node join ${self.output.number}"
    working_dir = self.output.checkout
    environment = { VAR = self.output.var_dir, PORT_BASE = "" }
  }

  provisioner "local-exec" {
    when        = destroy
    command     = ".venv/bin/python -m control.local.node leave ${self.output.number}"
    working_dir = self.output.checkout
    environment = { VAR = self.output.var_dir, PORT_BASE = "" }
  }
}
