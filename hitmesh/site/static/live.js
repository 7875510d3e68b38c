// The start page: snippets with this counter's name in them, and a page's total as it grows.
(() => {
  const REFRESH_MS = 1000
  const here = new URL('.', location.href).href.replace(/\/$/, '')
  const form = document.querySelector('form')
  const total = document.querySelector('output')
  const problem = document.querySelector('#problem')
  const table = document.querySelector('table')
  const badge = document.querySelector('#badge')
  let asked = 0

  for (const each of document.querySelectorAll('[data-snippet]')) each.textContent = each.textContent.replaceAll('ORIGIN', here)

  const path = () => form.page.value.split('/').map(encodeURIComponent).join('/')

  const row = (dc, { count, age_s: age, retired }) => {
    const as_of = retired ? 'gone for good' : age == null ? 'nobody says' : age.toFixed(1) + ' s ago'
    const made = document.createElement('tr')
    for (const text of [dc, count.toLocaleString(), as_of]) made.insertCell().textContent = text
    return made
  }

  const ask = async (route, method) => {
    const mine = ++asked
    try {
      const answer = await fetch(route + '/' + path(), { method })
      const said = await answer.json()
      if (mine != asked) return // a later answer is there
      problem.textContent = answer.ok ? '' : said.title + ': ' + said.description
      if (!answer.ok) return
      total.textContent = said.total == null ? 'not known yet' : said.total.toLocaleString()
      table.hidden = false
      table.tBodies[0].replaceChildren(...Object.entries(said.dcs).sort().map(([dc, part]) => row(dc, part)))
    } catch {
      if (mine == asked) problem.textContent = 'The counter can\'t be reached.'
    }
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault()
    ask('hit', 'POST').then(() => { badge.src = 'badge/' + path() + '?count=0&t=' + Date.now() })
  })
  setInterval(() => document.hidden || ask('total', 'GET'), REFRESH_MS)
  ask('total', 'GET')
  badge.src = 'badge/' + path() + '?count=0'
})()
