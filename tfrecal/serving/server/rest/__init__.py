"""How are answers given over HTTP and JSON?"""
