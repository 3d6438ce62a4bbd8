"""Files that hold many keys and certificates together, PKCS#12 and JKS: read, changed in memory, and written as Java,
OpenSSL and Windows read them. Keystores keep certgate's own keys in them, endpoints put certificates into a product's.
"""
