// One JSON object a line from stdin, one a line to stdout: builds and parses frames with ssm-session.
//   {"build": "input" | "acknowledge" | "size", ...} -> {"hex"}      {"parse": hex} -> the fields as read
const { ssm } = require('ssm-session/dist/index.js')
const lines = require('readline').createInterface({ input: process.stdin })

const hex = (bytes) => Buffer.from(bytes).toString('hex')
const builders = {
  input: ({ text, sequence }) => ssm.buildInputMessage(text, sequence),
  acknowledge: ({ type, sequence, id }) => ssm.buildAcknowledge(type, sequence, id),
  size: ({ cols, rows }) => ssm.buildInitMessage({ cols, rows }),
}

lines.on('line', (line) => {
  const asked = JSON.parse(line)
  let answer
  if (asked.build === 'token') {
    answer = { text: ssm.buildTokenMessage(asked.token) }
  } else if (asked.build) {
    answer = { hex: hex(builders[asked.build](asked)) }
  } else {
    answer = ssm.decode(Uint8Array.from(Buffer.from(asked.parse, 'hex')).buffer)
    answer.payload = hex(answer.payload)
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
})
