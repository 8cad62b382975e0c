"""What operators ask of the cluster and have it do; and the invitation of a machine to be a
node."""
