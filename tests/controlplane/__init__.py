"""Real Kubernetes control planes for tests, on this machine: etcd, API servers, controllers and play kubelets.

`members` starts and stops them, `binaries` finds or builds their programs, `certificates` makes their keys, `faults`
stands between a client and one of them, `plugin` offers them to pytest. Nothing here imports the project that is under
test, except its clock; no container, no root and no container registry is needed.
"""
