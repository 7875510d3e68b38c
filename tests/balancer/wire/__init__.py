"""Bytes on the wire: a corpus, a backend that refuses whatever it may, and what is compared.

- `strict`, `strict_body`: read requests as strictly as RFC 9110 and 9112 allow; `oracle`: what must become of a
  client's bytes.
- `case`, `valid_*`, `invalid_*`, `corpus`: the corpus and its combinations; `mutate`: it gone wrong at random.
- `backend`, `clients`, `answers`, `outcomes`, `proxies`: a strict server, many clients at once, what they got, and
  the proxies between them.
- `differences`, `listed`: where hitmesh and HAProxy part, as docs/http.md has it.
- `scripted`, `trouble`, `visitor`: a backend that misbehaves byte by byte, and one who asks for it.

None of it uses hitmesh.http: a reader that is tested by itself agrees with itself.
"""
