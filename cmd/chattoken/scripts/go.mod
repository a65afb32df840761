module github.com/seed17cb2b26/chattoken/cmd/chattoken/scripts

go 1.26.0

require (
	github.com/rogpeppe/go-internal v1.16.0
	github.com/seed17cb2b26/chattoken v0.1.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/fxamacker/cbor/v2 v2.9.6 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/tools v0.26.0 // indirect
)
