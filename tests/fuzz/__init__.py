"""Any bytes at all: the decoder takes them or says why not, soon and in little memory."""
