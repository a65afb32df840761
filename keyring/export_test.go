package keyring

// What the tests need to make rings that this package would not.
var (
	Derive = derive
	Seal   = seal
	Unseal = unseal
)
