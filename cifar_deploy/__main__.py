"""python -m cifar_deploy"""

from cifar_deploy.cli import main

main()
