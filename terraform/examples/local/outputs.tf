output "mx_nodes" {
  description = "Names of all nodes."
  value       = [for number in range(1, var.mx_nodes + 1) : "mx${number}"]
}
