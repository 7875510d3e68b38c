// Counts the visits of a page by hitmesh. It sets no cookie, and stores nothing but a visitor's wish not to be counted.
(() => {
  const page = document
  const place = location
  const agent = navigator
  const script = page.currentScript
  const options = script.dataset
  const base = new URL(options.url || '.', script.src).href
  let last

  // A page works whether its visits are counted or not.
  const safely = (call) => (given) => {
    try { call(given) } catch {}
  }

  const allows = (what) => options.allow?.includes(what)

  const isOptedOut = () => {
    try {
      const kept = localStorage
      const wish = place.hash.split('#hitmesh-opt')[1]
      if (wish) {
        kept.hitmesh = wish
        alert('hitmesh: visits of this browser are ' + (wish == 'out' ? 'not ' : '') + 'counted here')
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
    const canonical = link && new URL(link.href)
    if (canonical && bare(canonical) == bare(url)) url = canonical
    const query = url.search.slice(1).split('&').filter(
      (each) => each && !/^((utm|mtm|pk)_\w+|(gcl|gbra|wbra|fbcl|mscl|ttcl|twcl)id|ref)\b/.test(each)
    ).join('&')
    return (options.site || url.hostname) + url.pathname + (query && '?' + query)
  }

  const ask = (path, method, elements) =>
    fetch(base + path, { method, keepalive: true, credentials: 'omit' })
      .then((answer) => answer.json())
      .then(({ total }) => elements.forEach((each) => {
        if (total != null) each.textContent = total.toLocaleString()
      }))
      .catch(() => {}) // no total to show

  const count = (path) => {
    const own = []
    page.querySelectorAll('[data-hitmesh-total]').forEach((each) => {
      const other = each.dataset.hitmeshTotal
      other ? ask('total/' + other, 'GET', [each]) : own.push(each)
    })
    const hit = 'hit/' + path
    if (own[0] || !agent.sendBeacon?.(base + hit)) {
      window.fetch ? ask(hit, 'POST', own) : new Image().src = base + 'pixel/' + path
    }
  }

  const whenSeen = (call) => {
    const again = () => whenSeen(call)
    if (page.hidden || page.prerendering) page.addEventListener('visibilitychange', again, { once: true })
    else if (agent.onLine) safely(call)()
    else addEventListener('online', again, { once: true })
  }

  const visit = (link) => {
    const path = name(link)
    last = name()
    whenSeen(() => count(path))
  }

  const moved = safely(() => name() == last || visit())

  const start = safely(() => {
    visit(page.querySelector('link[rel=canonical][href]'))
    for (const each of ['pushState', 'replaceState']) {
      const original = history[each]
      history[each] = function () {
        original.apply(this, arguments)
        moved()
      }
    }
    addEventListener('popstate', moved)
    addEventListener('pageshow', safely((event) => event.persisted && visit()))
  })

  if (isLeftOut()) return
  window.hitmesh = { count: safely(count) }
  page.readyState == 'loading' ? page.addEventListener('DOMContentLoaded', start) : start()
})()
