// Counts the visits of a page by hitmesh. It sets no cookie, and stores nothing but a visitor's wish not to be counted.
// Loaded as a module it has no element of its own, and nothing is counted.
try { (() => {
  const page = document
  const place = location
  const agent = navigator
  const listen = addEventListener
  const script = page.currentScript
  const options = script.dataset
  const base = new URL(options.url || '.', script.src).href

  // A page works whether its visits are counted or not.
  const safely = (call) => (given) => {
    try { call(given) } catch {}
  }

  const allows = (what) => options.allow?.includes(what)

  const isOptedOut = () => {
    try {
      const kept = localStorage
      const [, wish] = /^#hitmesh-opt(in|out)$/.exec(place.hash) || []
      if (wish) {
        kept.hitmesh = wish
        alert('hitmesh: this browser has opted ' + wish)
      }
      return kept.hitmesh == 'out'
    } catch {} // a browser that remembers nothing
  }

  const isLeftOut = () =>
    isOptedOut() ||
    !allows('privacy') && (agent.globalPrivacyControl || agent.doNotTrack == 1) ||
    !allows('driven') && agent.webdriver ||
    !allows('local') && /^$|localhost$|\.local$|^\[::1|^(127|10|192\.168|172\.(1[6-9]|2.|3[01]))\.[\d.]+$/.test(place.hostname)

  const bare = (url) => url.hostname.replace(/^www\./, '')

  const name = (link) => {
    let url = place
    try {
      const canonical = new URL(link.href)
      if (bare(canonical) == bare(url)) url = canonical
    } catch {} // none, or a broken one
    const query = url.search.slice(1).split('&').filter(
      (each) => each && !/^((utm|mtm|pk)_\w+|((g|fb|ms|tt|tw)cl|[gw]bra)id|ref)\b/.test(each)
    ).join('&')
    return (options.site || url.hostname) + url.pathname + (query && '?' + query)
  }

  const ask = (path, elements, method) => {
    elements.forEach((each) => each.hitmesh = path)
    fetch(base + path, { method, keepalive: !!method })
      .then((answer) => answer.json())
      .then(({ total }) => elements.forEach((each) => {
        if (total != null && each.hitmesh == path) each.textContent = total.toLocaleString()
      }))
      .catch(() => {}) // no total to show
  }

  const count = (path, elements = []) => {
    const hit = 'hit/' + path
    if (elements[0] || !agent.sendBeacon?.(base + hit)) {
      window.fetch ? ask(hit, elements, 'POST') : new Image().src = base + 'pixel/' + path
    }
  }

  const countAndShow = (path) => {
    const elements = [...page.querySelectorAll('[data-hitmesh-total]')]
    const other = (each) => each.dataset.hitmeshTotal
    count(path, elements.filter((each) => !other(each)))
    elements.forEach((each) => other(each) && ask('total/' + other(each), [each]))
  }

  // Capturing: the first two are events of the document. What is prerendered is seen before it has ended, too early to send.
  const whenSeen = (call) => {
    const awaited = page.prerendering ? 'prerenderingchange' : page.hidden ? 'visibilitychange' : agent.onLine ? '' : 'online'
    awaited ? listen(awaited, () => whenSeen(call), { once: true, capture: true }) : safely(call)()
  }

  const start = safely(() => {
    const link = page.querySelector('link[rel=canonical][href]')
    const first = name()
    let last
    const visit = () => {
      last = name()
      const path = name(last == first && link)
      whenSeen(() => countAndShow(path))
    }
    const moved = safely(() => isOptedOut() || name() == last || visit())
    for (const each of ['pushState', 'replaceState']) {
      const original = history[each]
      history[each] = function () {
        original.apply(this, arguments)
        moved()
      }
    }
    listen('popstate', moved)
    listen('pageshow', safely((event) => event.persisted && visit()))
    visit()
  })

  if (window.hitmesh?.count || isLeftOut()) return
  window.hitmesh = { count: safely(count) }
  page.readyState == 'loading' ? listen('DOMContentLoaded', start) : start()
})() } catch {}
