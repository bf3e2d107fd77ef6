// Starts dynalite in memory on a free loopback port, prints the port, and ends when stdin closes:
// so it never outlives the test process that holds the other end, however that one died.
const server = require('dynalite')({ createTableMs: 0, updateTableMs: 0, deleteTableMs: 0 })
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.stdin.on('end', () => process.exit(0)).resume()
