// Loads URLs all at once through a proxy, and prints the SHA-256 of each body as a JSON list.
//
//   node parallel.cjs AGENT PROXY CA_FILE URL...
//
// AGENT: undici (its fetch with a ProxyAgent), global (Node's own fetch, with undici's ProxyAgent
// as its dispatcher), hpagent (node:http and node:https with keepAlive).

'use strict'

const crypto = require('node:crypto')
const fs = require('node:fs')
const http = require('node:http')
const https = require('node:https')

const [kind, proxy, caFile, ...urls] = process.argv.slice(2)
const ca = fs.readFileSync(caFile)

function undiciLoader (ownFetch) {
  const undici = require('undici')
  const dispatcher = new undici.ProxyAgent({ uri: proxy, requestTls: { ca } })
  const load = ownFetch || undici.fetch
  return {
    load: async url => {
      const answer = await load(url, { dispatcher })
      return { status: answer.status, body: Buffer.from(await answer.arrayBuffer()) }
    },
    end: () => dispatcher.close()
  }
}

function hpagentLoader () {
  const { HttpProxyAgent, HttpsProxyAgent } = require('hpagent')
  const options = { keepAlive: true, maxSockets: 256, proxy, ca }
  const agents = { 'http:': new HttpProxyAgent(options), 'https:': new HttpsProxyAgent(options) }
  return {
    load: url => new Promise((resolve, reject) => {
      const protocol = new URL(url).protocol
      const request = (protocol === 'https:' ? https : http).get(url, { agent: agents[protocol] }, answer => {
        const pieces = []
        answer.on('data', piece => pieces.push(piece))
        answer.on('end', () => resolve({ status: answer.statusCode, body: Buffer.concat(pieces) }))
        answer.on('error', reject)
      })
      request.on('error', reject)
    }),
    end: () => Object.values(agents).forEach(agent => agent.destroy())
  }
}

async function main () {
  const loader = kind === 'hpagent' ? hpagentLoader() : undiciLoader(kind === 'global' ? fetch : null)
  const loaded = await Promise.all(urls.map(async url => {
    const { status, body } = await loader.load(url)
    if (status !== 200) {
      throw new Error(`${url}: ${status}: ${body}`)
    }
    return crypto.createHash('sha256').update(body).digest('hex')
  }))
  await loader.end()
  console.log(JSON.stringify(loaded))
}

main()
