package vectors_test

import (
	"fmt"

	"github.com/seed17cb2b26/chattoken/vectors"
)

// An implementation reads the vectors and compares each answer.
func ExampleRead() {
	v, err := vectors.Read()
	if err != nil {
		panic(err)
	}
	first := v.Invalid[8]
	fmt.Printf("%s: %s\n", first.Name, first.Reason)
	kek := v.KEKs[0]
	fmt.Printf("%s has the ID %s\n", kek.Name, kek.KEKID)
	// Output:
	// prefix in upper case: malformed
	// counting has the ID local-4329c6363713c8ab
}
