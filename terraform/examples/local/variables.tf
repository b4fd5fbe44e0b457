variable "mx_nodes" {
  description = "How many MX nodes the running local cluster has. The first two come with `make up`."
  type        = number
  default     = 2

  validation {
    condition     = var.mx_nodes == floor(var.mx_nodes) && var.mx_nodes >= 2 && var.mx_nodes <= 8
    error_message = "mx_nodes must be a whole number from 2 (those of `make up`) to 8 (the ports of one cluster)."
  }
}

variable "cluster_dir" {
  description = "The VAR of the running cluster, absolute; empty for var/ of this checkout."
  type        = string
  default     = ""
}
