"""Files that `regrow init --template NAME` writes: a folder a template; its `template.toml` says what goes where.

    [fields.port]                   a field; @port@ stands for it in the files and in their paths
    from = "port"                   what the survey knows under this name is its value, unless --set says another
    default = "8080"                else this; without one, it must be said
    pattern = '[0-9]+'              what a value may be; not set: letters, digits, and . _ - / : only

    [[files]]
    from = "regrow.toml"            in the template's folder; beside it, regrow.zh.toml is what a Chinese terminal gets
    to = "regrow.toml"              below the folder that is set up

A line with a field that is empty is left out. What a template says when its files are written is `next_NAME` of the
catalogue `init`, where it has one; what it is for, in a line, is `template_NAME`.
"""
