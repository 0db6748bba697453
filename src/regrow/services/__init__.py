"""Service drivers by name: the dotted name of each class, imported only when it is chosen."""

DRIVERS = {
    "embedded": "regrow.services.embedded:EmbeddedService",
}
