"""Well-known servers as Debian's packages provide them, on hosts of the site.

    web = nginx.start(site.real_servers[0], port=80, paths={"/health": nginx.Answer(body="ok")})
    web.pause()

Each module has a `start` that writes a minimal configuration, starts the server and returns when it answers; what
that gives is a `Server`.
"""
