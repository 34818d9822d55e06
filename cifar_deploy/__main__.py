"""The program's entry, of `cifar-deploy` and of `python -m cifar_deploy`."""

from cifar_deploy import process


def main() -> None:
    process.begin()
    from cifar_deploy import main

    main.main()


if __name__ == "__main__":
    main()
