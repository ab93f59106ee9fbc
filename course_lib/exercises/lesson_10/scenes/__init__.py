"""What the judges of lesson 10 share: tables, servers, workloads and measurements that answers are tried on."""
